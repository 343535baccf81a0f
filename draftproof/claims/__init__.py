"""From a step's text to the equations it states: expression trees with source spans, and their exact values."""
