"""A draft and a target model of a few megabytes, the word problems they solve, and what is true of their steps."""
