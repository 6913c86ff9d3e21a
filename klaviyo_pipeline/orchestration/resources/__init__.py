"""The resources through which assets, checks and sensors use an account's API and tables."""
