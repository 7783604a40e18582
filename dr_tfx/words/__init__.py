"""The languages of pages and figures."""
