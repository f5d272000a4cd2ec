"""The tests, in folders by room."""
