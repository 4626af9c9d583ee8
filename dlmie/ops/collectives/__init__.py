"""Operations that the ranks of a parallel program compute together."""
