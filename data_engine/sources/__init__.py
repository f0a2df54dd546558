"""What comes from outside: PDFs and texts of the user."""
