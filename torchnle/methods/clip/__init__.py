"""CLIP (Radford et al., 2021), read by location in the space that its images share with its texts."""
