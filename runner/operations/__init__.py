"""What commands other than plan and apply do."""
