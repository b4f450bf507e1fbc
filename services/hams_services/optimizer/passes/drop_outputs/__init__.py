"""Drop-outputs: networks without unused outputs and classes."""
