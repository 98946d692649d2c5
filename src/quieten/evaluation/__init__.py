"""Measuring denoisers: systems on items, scores in a folder, tables of them."""
