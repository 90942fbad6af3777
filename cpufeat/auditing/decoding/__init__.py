"""From bytes of code to the features that its instructions require."""
