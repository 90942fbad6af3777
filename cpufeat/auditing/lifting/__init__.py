"""From instructions to what they do to registers, flags, memory and control flow."""
