"""How the kernel is told: the table, the text of its rules, one transaction for each change."""
