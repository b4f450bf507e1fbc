"""Where results go: ordinary subscribers that write them somewhere. See ``hams-ctl sink``."""
