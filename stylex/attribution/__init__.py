"""The attribution wing: what else is used to explain a classifier, without any generator."""
