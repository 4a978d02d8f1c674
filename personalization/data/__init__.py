"""What is taught: photos, their masks and captions, and the concept that they show."""
