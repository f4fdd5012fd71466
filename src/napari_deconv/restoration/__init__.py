"""How to undo the blur: methods written once, as array maths over an `Engine`."""
