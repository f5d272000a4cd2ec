"""How far to believe a result: spread, goodness of fit, held-out scores, atom columns."""
