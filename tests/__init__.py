"""Named, so that no package of the same name in an environment comes first."""
