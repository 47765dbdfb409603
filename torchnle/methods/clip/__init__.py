"""CLIP (Radford et al., 2021), read place by place in the space that its images share with its texts."""
