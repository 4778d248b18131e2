"""Manifests: tables that list image files."""
