"""Numbers as people say them."""


def in_words(seconds: float) -> str:
    """A time: 40 s, 3 m 5 s, 2 h 10 m."""
    if 0 < seconds < 0.5:
        return "< 1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} m"


def size_in_words(count: float) -> str:
    """Bytes: 1.25 GB, 12.4 MB, 850 bytes."""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_:
            digits = 2 if unit == "GB" else 1
            return f"{count / bytes_:,.{digits}f} {unit}"
    return f"{count:.0f} bytes"
