"""What tests share: inputs, outside tools and other interpreters."""
