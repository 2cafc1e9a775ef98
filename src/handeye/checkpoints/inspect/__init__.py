"""`handeye inspect`: what is this file or folder, would it load, and what is missing?"""
