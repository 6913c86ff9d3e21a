"""The resource through which assets and checks reach a Klaviyo account."""
