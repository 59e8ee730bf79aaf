"""Generated images and clips for training, and readers of the usual data sets."""
