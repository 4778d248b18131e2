"""The stage that trains heads, and what it takes to train one."""
