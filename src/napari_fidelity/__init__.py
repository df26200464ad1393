"""Make a restored image answer to the data it was restored from."""
