"""Pictures of specs: a tree of parts, its layout, and the forms in which it is written."""
