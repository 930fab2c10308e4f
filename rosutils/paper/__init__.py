"""The paper, item by item."""
