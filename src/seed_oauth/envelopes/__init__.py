"""What the door seals, so that it can hand it out and trust it when it comes back."""
