"""Local web pages: the preference study."""
