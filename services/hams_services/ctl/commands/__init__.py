"""The commands of hams-ctl and their options; what a command does is in `actions`, imported when it runs."""
