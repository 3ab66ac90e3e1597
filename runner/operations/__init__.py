"""What commands other than plan and apply do: status, verify, import, forget, partitions, orphans."""
