"""Labels of units measured: planted units, a classifier's output units, and what labelling costs."""
