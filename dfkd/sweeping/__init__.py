"""Sweeps: settings searched by trials, each an ordinary run judged without real data."""
