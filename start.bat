@echo off
setlocal
rem The Spout service: a texture in, a texture out, OSC on port 7000. Further flags go behind it.
cd /d "%~dp0"
if exist .venv\Scripts\activate.bat call .venv\Scripts\activate.bat
python main.py --spout-in=SourceImage --spout-out=StreamDiffusion --model=stabilityai/sd-turbo --delta=0.5 %*
rem Started by a double click: what went wrong stays readable.
if errorlevel 1 pause
