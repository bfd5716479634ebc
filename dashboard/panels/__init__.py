"""The building blocks of the pages: each draws one thing and handles its clicks."""
