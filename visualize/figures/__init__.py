"""Drawing: panels, text, charts, pages; needs no compiler."""
