"""Options of the stages. Each is declared here once, see `frostline.options`."""
