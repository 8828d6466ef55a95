"""Real clusters, a churn of real pods, and everything around them failing on a seeded schedule. See README.md."""
