"""Tests of scripts and functions."""
