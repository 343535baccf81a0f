"""Pictures of measurements, as SVG that any browser shows: no plotting package is needed to see what a run gave."""
