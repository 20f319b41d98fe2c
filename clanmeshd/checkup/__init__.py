"""What `clanctl doctor` shows: a look around, and what follows from it. Imported when somebody asks."""
