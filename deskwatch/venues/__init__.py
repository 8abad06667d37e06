"""Wire clients of venues: authentication, signing, paging, rate limits, and what a venue's answers mean. No desk words here."""
