"""Extensions of modelmill."""
