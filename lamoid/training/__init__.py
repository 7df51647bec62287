"""Train: a short loop, objectives as tables of terms, optimisers by rule, and resumes that are exact."""
