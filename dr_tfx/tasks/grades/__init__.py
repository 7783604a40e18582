"""The kind `grades`: classes in an order, of which an error costs the more, the farther it is."""
