"""Changes of the user's IR before code generation: text of a module in, text out."""
