"""Training of the pocket model: pictures, stylisations, prompts, the loop and the export."""
