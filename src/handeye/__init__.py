"""handeye: fine-tune vision-language-action models on LIBERO, and measure them so that the number is true."""

__version__ = "0.1.0"
