"""Network cameras that know ONVIF: how they are found, and what they are asked."""
