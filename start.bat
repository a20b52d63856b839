@echo off
rem The Spout service: a texture in, a texture out, OSC on port 7000. Further flags go behind it.
python main.py --spout-in=SourceImage --spout-out=StreamDiffusion --model=stabilityai/sd-turbo --delta=0.5 %*
