"""How nearly predictions equal others: of a variant and its source (the optimizer), of a candidate and what serves."""
