"""Classification by tables: which rule of thousands a packet meets first, at a cost that hardly grows with their number."""
