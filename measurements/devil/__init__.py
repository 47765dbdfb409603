"""DeViL's tables and figure on composed scenes: table 2, table 4 and figure 7 (table 5: `class_maps`).

``python -m measurements devil-tables`` runs them.
"""

from measurements.devil.crops import crop_sizes
from measurements.devil.layers import dropout_table, layer_table
from measurements.devil.report import page

__all__ = ["crop_sizes", "dropout_table", "layer_table", "page"]
